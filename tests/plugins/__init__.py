"""A method as a user would add one, kept out of the registry until a test asks for it by the fixture `knn`."""

from tests.plugins.kth_neighbour import KthNeighbour as KthNeighbour
from vlm_ood.detectors import registry

registry._classes.pop(KthNeighbour.name)
