"""The launch plan: whether a service fits on a host and what is wrong with it, known before anything is started.

Pure functions over the service description, what a host says of itself and what a model's folder says of the model.
"""
