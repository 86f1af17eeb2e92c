"""Measure how far you can trust a language model as a judge of language models.

`__init__.pyi` lists the public names; each is loaded when it is first used. Further names are in
topic modules: `lj.data`, `lj.stats`, `lj.figures`, `lj.audit`, `lj.train`.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
