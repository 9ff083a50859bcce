"""The checkers and challenges: small functions of published inputs, one module a theme."""
