"""Generate answers to questions, and questions themselves: devised by category, or translated."""

from lmjudge.generation.answering import Answerer, conversations, generate, next_requests
from lmjudge.generation.recipes import KINDS, RECIPES, devise, kinds, translate

__all__ = [
    "KINDS",
    "RECIPES",
    "Answerer",
    "conversations",
    "devise",
    "generate",
    "kinds",
    "next_requests",
    "translate",
]
