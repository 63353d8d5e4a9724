"""From a bundle to answers: engines that compute a network, and the classifier around them."""
