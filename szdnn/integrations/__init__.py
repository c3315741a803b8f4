"""szdnn in other libraries' places; each module imports the library it is for, and nothing else imports the module.

- `checkpoint`: periodic checkpoints of a training loop, in the background (torch)
- `dcp`: storage and planners for torch.distributed.checkpoint
- `remote`: files in object stores and on servers, through fsspec
- `dask`: tensors compressed on a Dask cluster
"""
