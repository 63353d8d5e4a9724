"""Files on one side, the core's objects on the other: images, RxRx1, embryos, tables."""
