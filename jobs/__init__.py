"""The commands of LightSAGE: they run the other rooms and keep versions in a workspace."""
