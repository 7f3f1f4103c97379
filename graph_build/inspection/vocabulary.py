"""The words that logs use for the contract's columns and types of events: in lower case, letters and digits only."""

import re

from graph_build.config import EventType, Ignored
from graph_build.ingest.contract import Table


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Table → column of the contract → the names that logs use for it, the most certain ones first.
NAMES: dict[Table, dict[str, tuple[str, ...]]] = {
    "events": {
        "session_id": _words(
            """
            sessionid session usersession visitid visit domainsessionid gasessionid sid sessid sessionkey sessionuuid
            sessionhash basketid cartid orderid invoiceno invoice transactionid receiptid
            """
        ),
        "timestamp": _words(
            """
            timestamp eventtime eventtimestamp ts datetime time derivedtstamp collectortstamp createdat occurredat
            eventts servertime visittime clicktime actiontime originaltimestamp unixtime unixreviewtime tdat
            invoicedate orderdate purchasedate eventdate date day orderpurchasetimestamp receivedat sentat timecreated
            dt
            """
        ),
        "event_type": _words(
            """
            eventtype event eventname action actiontype type behavior behaviortype behaviour behaviourtype interaction
            interactiontype activity activitytype verb op kind
            """
        ),
        "item_id": _words(
            """
            itemid item productid product sku productsku itemsku aid articleid asin parentasin goodsid contentid
            videoid movieid newsid listingid offerid stockcode pid iid trackid songid bookid isbn adgroupid
            productidhash materialid mid objectid entityid reference productcode upc ean gtin variantid
            """
        ),
        "user_id": _words(
            """
            userid user visitorid customerid customer userpseudoid anonymousid domainuserid clientid uid memberid
            shopperid householdkey accountid fullvisitorid cookieid deviceid buyerid reviewerid personid profileid
            hashedemail customeruniqueid visitor uuid
            """
        ),
        "source_item_id": _words("sourceitemid referreritemid fromitemid sourceproductid"),
        "query": _words("query searchterm searchquery keyword keywords searchstring q searchphrase"),
        "event_id": _words("eventid messageid hitid eventuuid insertid"),
        "sequence": _words("sequence seq eventnumber step hitnumber addtocartorder eventsequencenumber"),
        "request_id": _words("requestid impressionid responseid"),
        "position": _words("position rank slot listposition itemlistindex"),
        "price": _words("price itemprice unitprice productprice pricelog2 salesvalue saleprice"),
        "ad_id": _words("adid creativeid adcreativeid"),
        "country": _words("country countrycode geocountry shopcountry locale"),
    },
    "items": {
        "category": _words(
            """
            category categorypath categorycode categoryname categoryid productcategory itemcategory producttypename
            producttype department departmentname departmentid aisle aisleid genres genre catid cate categories
            productgroupname breadcrumb googleproductcategory
            """
        ),
        "brand": _words("brand brandname manufacturer vendor brandid make store itembrand"),
        "price": _words("price listprice unitprice saleprice itemprice pricelog2"),
        "title": _words(
            """
            title name productname itemname prodname producttitle description productdescription headline
            productnametokens
            """
        ),
        "embedding": _words("embedding vector emb features"),
        "image_url": _words("imageurl image imagelink imgurl picture pictureurl imurl thumbnail"),
    },
    "ads": {
        "ad_id": _words("adid ad creativeid adcreativeid lineitemid sponsoredid promotionid"),
        "campaign_id": _words("campaignid campaign cid ordercampaignid adgroupid"),
        "advertiser_id": _words("advertiserid advertiser sellerid merchantid vendorid accountid"),
        "starts_at": _words("startsat start startdate starttime validfrom begin begins flightstart from"),
        "ends_at": _words("endsat end enddate endtime validto validuntil expires flightend until to"),
        "status": _words("status state adstatus active"),
        "countries": _words("countries country geo targetcountries markets"),
        "bid": _words("bid bidprice maxbid cpc cpcbid maxcpc bidcents"),
        "version": _words("version revision rev"),
    },
}
NAMES["items"]["item_id"] = (*NAMES["events"]["item_id"], "id")
NAMES["ads"]["item_id"] = NAMES["events"]["item_id"]

# The contract's type → words for such events. `ignore` is for events that do not tell which items people want.
EVENT_WORDS: dict[EventType | Ignored, tuple[str, ...]] = {
    "view": _words(
        """
        view views viewed pageview pageviews viewpage detail details productview productviewed viewitem itemview
        viewproduct viewcontent productdetail productdetails pdpview pv visit browse open read watch play listen
        screenview itempage detailview rating review interactionitemdeals interactioniteminfo interactionitemimage
        interactionitemrating
        """
    ),
    "click": _words(
        """
        click clicks clicked tap select selectitem productclick productclicked itemclick clickitem clickout
        clickoutitem clickproduct adclick clk
        """
    ),
    "add_to_cart": _words(
        """
        addtocart addtocarts cart carts add addcart cartadd basket addtobasket productadded addproduct addedtocart atc
        addtobag bag addtotrolley cartaddition
        """
    ),
    "purchase": _words(
        """
        purchase purchases purchased buy buys bought order orders ordered transaction transactions sale sales sold
        conversion ordercompleted checkoutcomplete orderplaced paid pay payment trade productpurchased transactionitem
        """
    ),
    "search": _words(
        """
        search searches searched query productssearched viewsearchresults sitesearch searchforitem searchquery
        keywordsearch
        """
    ),
    "impression": _words(
        """
        impression impressions imp imps display displayed exposure exposed shown show served viewitemlist
        productlistviewed listview productimpression viewpromotion promotionviewed
        """
    ),
    "ignore": _words(
        """
        removefromcart removedfromcart productremoved cartremove remove removefrombasket sessionstart firstvisit
        firstopen scroll userengagement pageping identify page screen login logout signup signin register
        begincheckout checkout checkoutstarted checkoutstepviewed addpaymentinfo addshippinginfo viewcart cartviewed
        refund orderrefunded ordercancelled cancel return fav favorite favourite collect wishlist addtowishlist like
        dislike share filter filterselection sort changeofsortorder exit error heartbeat logview productlistfiltered
        couponapplied applicationopened applicationinstalled linkclick submitform changeform focusform filedownload
        videostart formstart unstruct struct group alias
        """
    ),
}
# The type of events → words in the names of files or columns that suggest it, if no column tells the type.
TABLE_WORDS: dict[EventType, tuple[str, ...]] = {
    "purchase": _words("purchase order buy transaction basket sales invoice receipt t_dat quantity"),
    "add_to_cart": _words("addtocart add_to_cart cart"),
    "search": _words("search queries"),
    "impression": _words("impression"),
    "click": _words("clickout"),
}
_NO_LETTER = re.compile(r"[^a-z0-9]")


def plain(name: str) -> str:
    """Return the letters and digits of a name, in lower case.

    >>> plain("Product_ID")
    'productid'
    """
    return _NO_LETTER.sub("", name.lower())


def is_known_name(name: str) -> bool:
    """Return whether logs use a name for a column of the contract."""
    word = plain(name)
    return len(word) > 1 and any(word in names for columns in NAMES.values() for names in columns.values())


def name_score(table: Table, column: str, own_name: str) -> float:
    """Return how certain a column's name is to mean a column of the contract, from 0 (not at all) to 1 (surely).

    Args:
        table: which of the three tables.
        column: the contract's column.
        own_name: the log's name, with points where it leads into records.
    """
    names = (plain(column), *NAMES[table].get(column, ()))
    path = own_name.split(".")
    # "product.id" is the id of a product, and "items.item_id" that of an item; the shorter a path, the more certain.
    words = [
        plain(path[-1]),
        *([plain("".join(path[-2:])), plain(path[-2]).rstrip("s") + plain(path[-1])] if path[1:] else []),
    ]
    exact = [names.index(word) for word in words if word in names]
    if exact:
        return 1.0 - 0.5 * min(exact) / len(names) - 0.02 * (len(path) - 1)
    inside = [name for name in names if len(name) > 4 and name in words[-1]]
    return 0.3 if inside else 0.0


def event_type(word: str) -> EventType | Ignored | None:
    """Return the type that a log's word for an event means; None if it is not known.

    >>> event_type("Product Viewed"), event_type("remove_from_cart"), event_type("0815")
    ('view', 'ignore', None)
    """
    text = plain(word)
    return next((kind for kind, words in EVENT_WORDS.items() if text in words), None)
