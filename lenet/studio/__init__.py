"""The studio: a page to draw digits on and watch the network think, served on this machine by Flask."""
