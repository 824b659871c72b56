"""Files and uploads as raw tables and images, one module a format, whole or in pieces."""
