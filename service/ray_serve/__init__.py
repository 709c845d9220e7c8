"""`python -m service.ray_serve`: the application on a Ray cluster."""
