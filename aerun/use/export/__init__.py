"""Trained runs for other programs: ONNX, torch.export, weights with a card."""
