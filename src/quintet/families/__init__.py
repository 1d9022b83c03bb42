"""The five families of generative models, and masked diffusion."""
