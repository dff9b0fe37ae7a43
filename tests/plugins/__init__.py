"""A method as a user would add one, kept out of the registry until a test asks for it by the fixture `knn`."""

from tests.plugins.knn import NearestNeighbours as NearestNeighbours
from vlm_ood.detectors import registry

registry._classes.pop(NearestNeighbours.name)
