"""Trained runs for other programs: ONNX, torch.export, weights with a model card."""
