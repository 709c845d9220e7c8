"""One supervised process for each device."""
