"""A plain model of a workspace's nights: what is stored, published, rolled back and deleted after each command."""

from dataclasses import dataclass, field

OK, WRONG_INPUT, REFUSED = 0, 2, 4


@dataclass(eq=False)
class NightVersion:
    """A version: the day of its night, the content of the days that it learned from, and the version it followed."""

    date: str
    days: dict[str, str]
    parent: "NightVersion | None"
    forced: bool
    name: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The inputs of the build, apart from the parent."""
        return self.date, repr(self.days)


@dataclass
class Nights:
    """The state of a workspace whose `keep_versions` is `keep`."""

    keep: int
    stored: dict[str, str] = field(default_factory=dict)
    versions: list[NightVersion] = field(default_factory=list)  # in the order of publication
    current: NightVersion | None = None
    rolled_back: list[NightVersion] = field(default_factory=list)
    held: list[NightVersion] = field(default_factory=list)  # built while somebody rolled back

    def night(
        self, date: str, content: str, *, good: bool, force: bool = False, rollback_meanwhile: bool = False
    ) -> tuple[int, str]:
        """Return the exit code and the outcome of a night that nothing interrupts."""
        if self.current and self.current.date > date and not force:
            return WRONG_INPUT, "failed"
        self.stored[date] = content
        parent = self._followed_by(date)
        days = {day: text for day, text in sorted(self.stored.items()) if day <= date}
        new = NightVersion(date, days, parent, not good)
        same = [version for version in self.versions if version.key == new.key and version.parent is parent]
        existing = same[0] if same else None
        if existing and existing.forced and existing is not self.current and not force:
            return REFUSED, "refused"
        if not force and any(v.key == new.key and v is not self.current for v in self.rolled_back):
            return OK, "held"
        if existing:
            self._make_current(existing)
            self._delete_old()
            return OK, "unchanged"
        rolled_back = rollback_meanwhile and self.rollback()  # before the last gates
        if not good and not force:
            return REFUSED, "refused"
        self.versions.append(new)
        if rolled_back:
            self.held.append(new)
            return OK, "held"
        self._make_current(new)
        self._delete_old()
        return OK, "published"

    def rollback(self) -> bool:
        """Go back from the current version; return whether there is one to go back to."""
        if self.current is None or not (older := self._older(self.current)):
            return False
        target = self.current.parent if self.current.parent in older else older[-1]
        first, last = self.versions.index(target) + 1, self.versions.index(self.current) + 1
        self.rolled_back += [version for version in self.versions[first:last] if version not in self.rolled_back]
        self.rolled_back = [version for version in self.rolled_back if version is not target]
        self.current = target
        return True

    def _followed_by(self, date: str) -> NightVersion | None:
        """Return the nearest version of an earlier date, going back from the current version through the parents.

        If a parent was deleted, the last version that was published before its child takes its place.
        """
        version, older = self.current, self.versions
        while version is not None:
            if version in self.versions:
                if version.date < date:
                    return version
                older = self._older(version)
                version = version.parent
            else:  # deleted
                version = older[-1] if older else None
        return None

    def _older(self, version: NightVersion) -> list[NightVersion]:
        """Return the versions that were published before this one, without those that were rolled back or held."""
        before = self.versions[: self.versions.index(version)]
        return [other for other in before if other not in self.rolled_back and other not in self.held]

    def _make_current(self, version: NightVersion) -> None:
        self.current = version
        self.rolled_back = [other for other in self.rolled_back if other.key != version.key]
        self.held = [other for other in self.held if other is not version]

    def _delete_old(self) -> None:
        stay = [*self.versions[-self.keep :], self.current, self.current.parent]
        self.versions = [version for version in self.versions if version in stay]
