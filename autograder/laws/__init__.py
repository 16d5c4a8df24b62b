"""The laws that every grader is proven by: ``forwardpass validate``."""
