"""All that is below the named files: imported by them, importing none of them."""
