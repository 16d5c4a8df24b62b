"""The lesson that attacks are made on: small, quick, with one exercise of every kind."""
