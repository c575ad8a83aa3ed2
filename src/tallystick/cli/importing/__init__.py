"""`tallystick import`: files of events, whatever their form, through the same door as requests."""
