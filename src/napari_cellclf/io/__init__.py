"""Files on one side, the core's objects on the other: TIFF, PNG, JPEG, RxRx1, embryos, tables."""
