"""A CUDA GPU that is not there: tensors that say ``cuda:0`` and hold their values in the processor's memory.

    with emulated(T4):
        ...

What is emulated, and so can be tested without a GPU:

- Devices. A tensor on ``cuda`` says so, an operation on tensors of both devices raises, a generator has to be of the
  device that draws, ``numpy()`` of a tensor on the GPU raises, and parameters keep their identity when a module moves.
- Transfers. Every time that the program has to wait for the device is noted with the line that asked for it: values
  read by the host (``item``, ``tolist``, ``bool``, ``cpu``, results whose size depends on values), blocking copies to
  the device, ``synchronize``. See ``transfers``.
- Generators. The GPU's draw other numbers than the processor's, and a state of theirs is 16 bytes (seed and offset).
- Cards. ``torch.cuda`` answers for the card: its name, compute capability, and whether PyTorch has code for it.
- CUDA graphs: see graphs.py.
- ``torch.use_deterministic_algorithms``: raises for those operations of which PyTorch says that CUDA has no such form.

What is not:

- Numbers. All is computed by the processor's kernels; where those lack half precision, in float32, rounded at the end.
  A bf16 or fp16 result is of that type but not to the bit what a GPU gives. TF32, cuDNN's choices and kernels that
  give another result each time are not there.
- Autocast. Which operations run in half precision is the processor's list, which differs a little from CUDA's.
- PyTorch's own C++ code believes that it is on a processor. Inside of it (in ``aten`` composites and in the backward
  pass) the devices of tensors that it makes by itself are not checked.
- Time and memory. Nothing is faster, nothing runs out; memory in use is always 0. Streams and events are empty, and
  ``torch.compile`` cannot be used.
- A thread of its own sees tensors on the GPU, but cannot make one.

The sitecustomize.py beside this package puts the emulation into processes that a test starts.
"""

from emulation.cards import H100 as H100
from emulation.cards import P100 as P100
from emulation.cards import T4 as T4
from emulation.cards import Card as Card
from emulation.install import emulated as emulated
from emulation.transfers import Transfer as Transfer
from emulation.transfers import transfers as transfers
