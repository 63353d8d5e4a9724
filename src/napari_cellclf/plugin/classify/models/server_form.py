"""Asking for the address of a server that computes."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_cellclf.plugin.shared.controls import small_label

_SAYS = (
    "A computer that runs cellclf serve, such as one with a graphics card, computes the network. "
    "Images are prepared here and sent to it."
)


class ServerForm(QWidget):
    """Address and token; hidden until it is asked for."""

    #: The address was given; the server shall be asked.
    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.address = QLineEdit()
        self.address.setPlaceholderText("https://plates.example")
        self.token = QLineEdit()
        self.token.setPlaceholderText("if it asks for one")
        self.token.setEchoMode(QLineEdit.EchoMode.Password)
        self.connect_button = QPushButton("Connect")
        self.drop = QPushButton("Discard")
        self.connect_button.clicked.connect(self.wanted)
        self.address.returnPressed.connect(self.wanted)
        self.drop.clicked.connect(self.hide)
        says = small_label()
        says.setText(_SAYS)
        row = QHBoxLayout()
        row.addWidget(self.connect_button, 2)
        row.addWidget(self.drop, 1)
        form = QFormLayout(self)
        form.setContentsMargins(0, 6, 0, 0)
        form.addRow(says)
        form.addRow("Address", self.address)
        form.addRow("Token", self.token)
        form.addRow(row)
        self.setVisible(False)
