"""Localisation: the same dates, amounts and names as two locales write them.

Source: Unicode CLDR, https://cldr.unicode.org, through Babel, https://babel.pocoo.org.
"""
