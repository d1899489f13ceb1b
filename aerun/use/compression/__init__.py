"""Pictures as small files, by a run whose code is rounded and whose entropy model is learned."""
