"""The commands that run the rooms, nightly and by hand, and the store that holds what they make."""
