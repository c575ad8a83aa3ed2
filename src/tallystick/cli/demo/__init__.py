"""`tallystick demo`: a made-up day of traffic, metered by a real server and compared with what was made up."""
