"""Weight sharing: the weights of a layer take a few values, its codebook, which is then trained.

Han, Mao & Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding", ICLR 2016, section 3.
"""
from .codebooks import Codebooks
from .network import share_weights
from .trainer import CentroidTrainer

__all__ = ["CentroidTrainer", "Codebooks", "share_weights"]
