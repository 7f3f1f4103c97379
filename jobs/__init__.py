"""The commands of LightSAGE: they run the other rooms and keep versions in a workspace.

The ground files are the modules outside the wings (config, errors, …); every wing may import them.
"""
