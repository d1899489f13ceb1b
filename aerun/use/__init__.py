"""What to do with a trained run: search, cluster, clean, generate, map, export.

The packages share opened_run, inputs, image_files, contact_sheet and outputs. The console commands are in aerun/cli/.
"""
