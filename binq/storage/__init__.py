"""The ``.binq`` file: its bytes (``format``), written (``writer``) and read (``reader``)."""
