# %% [markdown]
# # Convoluciones y autograd
# Una red se compone de aplicaciones lineales con funciones sencillas entre ellas, y aprende mediante la regla de la
# cadena. Hacemos ambas cosas una vez a mano: la convolución como matriz, y lo que calcula `backward`. Luego escribimos
# funciones con su propio `backward`, al final las que necesita la resonancia magnética: la transformada de Fourier y
# una capa que ata la red a lo que midió el escáner. Todo tarda cerca de medio minuto; `LONG=1 jupyter lab` entrena diez
# veces más, con más cabezas.

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import autograd, nn
from torch.autograd import gradcheck

from mrirecon.config import SimulateConfig
from mrirecon.data import Volume
from mrirecon.models import UNet
from mrirecon.physics import Sense, fft2c, ifft2c, make_mask
from mrirecon.training import make_optimizer
from mrirecon.workflows.simulate import simulate_dataset

LONG = bool(os.environ.get("LONG"))
plt.rcParams |= {"image.cmap": "gray", "figure.dpi": 90, "axes.titlesize": 9, "figure.constrained_layout.use": True}
torch.manual_seed(0)


def show(images, vmin=None, vmax=None, width=2.4):
    _, axes = plt.subplots(1, len(images), figsize=(width * len(images), width + 0.3))
    for ax, (title, image) in zip(axes, images.items(), strict=True):
        ax.imshow(image, vmin=vmin, vmax=vmax)
        ax.set(title=title, xticks=[], yticks=[])
    plt.show()


# %% [markdown]
# ## Productos con una matriz, y convoluciones
# En $y = A x$ cada fila de $A$ es un patrón, e $y_i = \sum_j a_{ij} x_j$ dice cuánto hay del patrón $i$ en $x$. En
# sonidos e imágenes lo cercano guarda relación, y un patrón puede aparecer en cualquier lugar. Así, los patrones pueden
# ser cortos e iguales en todas partes: un núcleo de $k$ valores sobre $n$ muestras da $n - k + 1$ filas, en cada una el
# núcleo, desplazado un lugar más, y ceros en el resto (matriz de *Toeplitz*). Con $c$ canales de entrada, las filas de
# los canales van una junto a otra; $m$ núcleos son $m$ bloques así, apilados: $m\,(n-k+1)$ filas y $c\,n$ columnas.


# %% tags=["P1"]
def toeplitz(kernels, n):
    shifts = range(n - kernels.shape[-1] + 1)
    rows = [F.pad(kernels, (shift, len(shifts) - 1 - shift)) for shift in shifts]
    return torch.stack(rows, dim=1).reshape(len(kernels) * len(shifts), -1)


kernels, signal = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
T, x = toeplitz(kernels, 16), signal.flatten()
by_hand = torch.stack([sum(T[i, j] * x[j] for j in range(32)) for i in range(39)])
print(f"matrix {tuple(T.shape)}: {T.numel()} entries, {T.count_nonzero()} not 0, {kernels.numel()} different ones")
print(f"the product by hand against T @ x: largest difference {(by_hand - T @ x).abs().max():.1e}")
print(f"T @ x against conv1d: largest difference {(T @ x - F.conv1d(signal, kernels).flatten()).abs().max():.1e}")
show({"1 kernel, 1 channel": toeplitz(kernels[:1, :1], 16), "3 kernels, 2 channels": T}, -2, 2, width=3)

# %% [markdown]
# El gris es cero. El panel derecho tiene tres bloques de filas (núcleos) y dos de columnas (canales), cada uno una
# banda como la de la izquierda. Nada se ha reflejado: la convolución de las redes es la *correlación cruzada* de las
# matemáticas. Paso, relleno y dilatación cambian la matriz de manera sencilla. La leemos dando a `conv1d` la base
# canónica: salen las columnas.

# %% tags=["P1", "P2"]
options = {"plain": {}, "stride 2": {"stride": 2}, "padding 1": {"padding": 1}, "dilation 3": {"dilation": 3}}
kernel, unit_vectors = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.eye(14)[:, None]
matrices = {name: F.conv1d(unit_vectors, kernel, **option)[:, 0].T for name, option in options.items()}
show({f"{name}: {len(matrix)} rows": matrix for name, matrix in matrices.items()})

# %% [markdown]
# El paso (*stride*) salta filas, el relleno (*padding*) añade filas que sobresalen por los bordes, la dilatación estira
# el núcleo. Con relleno $p$, dilatación $d$ y paso $s$ hay $\lfloor (n + 2p - d\,(k - 1) - 1) / s \rfloor + 1$ filas,
# el ancho de la salida. Los pesos de una capa 1-D tienen tres dimensiones (salidas, entradas, ancho); los de una 2-D
# son un banco de núcleos con cuatro. Si $k$ es impar y el paso 1, el relleno $d\,(k - 1)/2$ conserva el tamaño.

# %% tags=["P2"]
for layer in (nn.Conv1d(2, 16, 3), nn.Conv1d(2, 16, 5)):
    print(f"{layer}: weight {[*layer.weight.shape]}, 64 -> {layer(torch.zeros(2, 64)).shape[1]}")
for layer in (nn.Conv2d(20, 16, (3, 5)), nn.Conv2d(20, 16, (3, 5), padding=(1, 2))):
    print(f"{layer}: weight {[*layer.weight.shape]}, 64 x 128 -> {[*layer(torch.zeros(20, 64, 128)).shape[1:]]}")
cases = [[n, k, s, p, d] for n in (16, 31) for k in (1, 3, 4) for s in (1, 2, 3) for p in (0, 1, 2) for d in (1, 2, 3)]
formula = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in cases]
by_torch = [F.conv1d(torch.zeros(1, n), torch.zeros(1, 1, k), None, *rest).shape[-1] for n, k, *rest in cases]
print(f"formula = torch in {sum(map(int.__eq__, formula, by_torch))} of {len(cases)} cases of n, k, s, p, d")

# %% [markdown]
# ## Qué calcula `backward`
# Autograd anota qué función produjo cada tensor (`grad_fn`) y recorre ese grafo del final al principio. Tomemos
# $a = \frac14 \sum_{ij} 3\,(x_{ij} - 2)^2$; a mano, $\partial a/\partial x_{ij} = \frac32 (x_{ij} - 2)$. Bajo `no_grad`
# no se anota nada y no hay camino de vuelta: `backward` da entonces un RuntimeError.

# %% tags=["P3", "P5"]
x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
a = (3 * (x - 2) ** 2).mean()
print(f"a = {a.item()}, graph: {a.grad_fn.name()} <- {a.grad_fn.next_functions[0][0].name()} <- ...")
a.backward()
print(f"x.grad = {x.grad.tolist()}, by hand {(1.5 * (x.detach() - 2)).tolist()}")
with torch.no_grad():
    print("under no_grad: grad_fn =", x.sum().grad_fn)

# %% [markdown]
# El gradiente tiene la forma de $x$, de modo que se puede dar un paso con él; el jacobiano de una función escalar es
# una fila, su traspuesta. En una aplicación de $n$ a $m$ números, el jacobiano $J$ es $m \times n$; `backward(v)`
# calcula $J^\top v$, un *producto vector-jacobiano*, sin construir $J$. Aquí duplicamos $y$ mientras su norma es menor
# que 1000 (las palabras de la clase dicen «hasta que sea menor»; su bucle sigue *mientras* lo es). Tras $i$ vueltas
# más, $J$ es $2^{i+1}$ veces la identidad, y el gradiente delata cuántas hubo. El jacobiano de una aplicación lineal es
# su matriz: el `backward` de una convolución multiplica por $T^\top$, lo que torch llama *convolución traspuesta*.

# %% tags=["P4", "P1"]
x, v, i = torch.randn(3, requires_grad=True), torch.tensor([0.1, 1.0, 1e-4]), 0
y = 2 * x
while y.detach().norm() < 1000:
    y, i = 2 * y, i + 1
y.backward(v)
print(f"i = {i}, 2^(i+1) = {2 ** (i + 1)}, gradient {x.grad.tolist()}, over v {(x.grad / v).tolist()}")
g = torch.randn(3, 13, dtype=torch.float64)
_, back = autograd.functional.vjp(lambda signal: F.conv1d(signal, kernels), signal, g)
print(f"backward of conv1d against T^T g: {(back.flatten() - T.T @ g.flatten()).abs().max():.1e},", end=" ")
print(f"against conv_transpose1d(g): {(back - F.conv_transpose1d(g, kernels)).abs().max():.1e}")

# %% [markdown]
# ## Nuestras propias funciones
# Una `Function` declara ambos sentidos y guarda en `ctx` lo que la vuelta necesita. `Add` envía el gradiente a los dos
# sumandos. `Split` tiene dos lectores, cuyos gradientes se suman: la vuelta de cada una es la ida de la otra. `Max`
# envía el gradiente al elemento mayor (un vector *one-hot*). En un *empate*, ¿al primero, a todos o repartido?


# %% tags=["P5"]
class Add(autograd.Function):
    forward = staticmethod(lambda _, a, b: a + b)
    backward = staticmethod(lambda _, gradient: (gradient, gradient))


class Split(autograd.Function):
    forward = staticmethod(lambda _, x: (x.clone(), x.clone()))
    backward = staticmethod(lambda _, gradient1, gradient2: gradient1 + gradient2)


class Max(autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x == x.max())
        return x.max()

    @staticmethod
    def backward(ctx, gradient):
        (largest,) = ctx.saved_tensors
        return gradient * largest / largest.sum()  # ties share it


a, b = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
print(f"against finite differences: Add {gradcheck(Add.apply, (a, b))}, Split {gradcheck(Split.apply, (a,))}")
for values in ([1.0, 3.0, 2.0, 0.0], [1.0, 3.0, 3.0, 0.0], [1.0, 3.0, 3.0, 3.0]):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    ours, shared, first = (autograd.grad(y, x)[0].numpy().round(2) for y in (Max.apply(x), x.amax(), x.max(dim=0)[0]))
    passes = gradcheck(Max.apply, (x,), raise_exception=False)
    print(f"{values}: {ours}, amax {shared}, max(dim=0) {first}, gradcheck of Max: {passes}")

# %% [markdown]
# Sumar $t$ a *todos* los elementos suma $t$ al máximo, haya empate o no: las entradas del gradiente deben sumar 1. La
# versión de la clase envía 1 a *cada* empatado, y así promete $2t$ o $3t$. Tanto el primero como las partes iguales son
# correctos (subgradientes). Repartimos, como `torch.amax`: el orden no importa. `gradcheck` no es buen juez en este
# punto anguloso: sus diferencias dan ½ a cada empatado, que resulta ser nuestra respuesta con dos y no con tres.
#
# ## La transformada de Fourier como función
# Con números complejos, el `backward` de una aplicación lineal es su *adjunta*: traspuesta y conjugada. La FFT centrada
# y ortonormal es unitaria, y su adjunta es su inversa. Sin el conjugado el gradiente es erróneo, y ningún mensaje de
# error lo dice.


# %% tags=["M1"]
class FFT(autograd.Function):
    forward = staticmethod(lambda _, image: fft2c(image))
    backward = staticmethod(lambda _, gradient: ifft2c(gradient))


x, y = torch.randn(2, 6, 5, dtype=torch.complex128, requires_grad=True)
ours, torchs = (autograd.grad(f(x), x, y)[0] for f in (FFT.apply, fft2c))
print(f"gradcheck: {gradcheck(FFT.apply, (x,))}; against autograd through fft2c: {(ours - torchs).abs().max():.1e}")
print(f"without the conjugate: off by {(fft2c(y) - torchs).norm() / torchs.norm():.2f} of the gradient's norm")
dots = torch.vdot(y.ravel(), fft2c(x).ravel()), torch.vdot(ifft2c(y).ravel(), x.ravel())
print(f"<y, Fx> - <F*y, x> = {(dots[0] - dots[1]).abs():.1e}, |Fx| / |x| = {fft2c(x).norm() / x.norm():.15f}")

# %% [markdown]
# ## Consistencia con los datos
# Un escáner mide $y = M F x$: del espacio k solo algunas columnas, siempre las del centro (la máscara $M$). El resto ha
# de adivinarlo una red, pero en las columnas medidas no tiene voz: una *capa de consistencia con los datos* repone $y$,
# $x \mapsto x - F^{*} (M F x - y)$. Es también un paso de gradiente sobre $\frac12 \lVert M F x - y \rVert^2$. No tiene
# pesos, y hacia atrás es la proyección $1 - F^{*} M F$: lo que deciden los datos no envía gradiente a la red.


# %% tags=["M2"]
def consistent(image, measured, mask):
    return image - ifft2c(mask * FFT.apply(image) - measured)


config = {"train": 24 if LONG else 6, "val": 0, "test": 1, "slices": 4, "matrix": [96, 96], "oversampling": 1.0}
data = simulate_dataset(SimulateConfig(tempfile.mkdtemp(prefix="autograd-"), coils=1, **config))
volumes = [Volume(path) for part in ("test", "train") for path in sorted((data / part).glob("*.h5"))]
heads = ifft2c(torch.stack([torch.from_numpy(volume.kspace(i))[0] for volume in volumes for i in range(4)]))
heads = heads / heads.abs().square().mean(dim=(1, 2), keepdim=True).sqrt()
mask = make_mask("random", 96, 0.08, 4, seed=1).columns
truth, measured = heads[2], mask * fft2c(heads[2])
image = truth.abs().to(torch.complex64).requires_grad_()  # a guess: the phase is missing
scanner = Sense(torch.ones(1, 96, 96, dtype=torch.complex64), mask)
loss = (scanner.forward(image) - measured).abs().square().sum() / 2
output, gradient = consistent(image, measured, mask), autograd.grad(loss, image)[0]
print(f"layer against a gradient step: largest difference {(output - (image - gradient)).abs().max():.1e}")
back = fft2c(autograd.grad(output, image, torch.randn_like(image))[0]).norm(dim=0)
print(f"gradient that comes back: up to {back[mask].max():.1e} in measured columns, {back[~mask].min():.1f} in others")

# %% [markdown]
# Una U-Net pequeña ve la imagen rellenada con ceros como dos canales, parte real e imaginaria. La entrenamos con
# máscaras aleatorias, una vez sola y otra con la capa detrás: mismos pesos iniciales, lotes y número de pasos.


# %% tags=["M2"]
def reconstruct(net, measured, mask, with_layer):
    channels = torch.view_as_real(ifft2c(measured)).movedim(-1, 1)
    image = torch.view_as_complex(net(channels).movedim(1, -1).contiguous())
    return consistent(image, measured, mask) if with_layer else image


images = {"truth": truth, "zero-filled": ifft2c(measured)}
for name, with_layer in {"U-Net alone": False, "U-Net with layer": True}.items():
    torch.manual_seed(0)
    net = UNet(2, 2, channels=8, pools=2, norm="group", residual=True)
    optimizer = make_optimizer("adam", net, lr=3e-3)
    for step in range(1000 if LONG else 100):
        drawn = make_mask("random", 96, 0.08, 4, seed=step).columns
        batch = heads[4 + torch.randperm(len(heads) - 4)[:4]]
        loss = (reconstruct(net, drawn * fft2c(batch), drawn, with_layer) - batch).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images[name] = reconstruct(net, measured[None], mask, with_layer)[0].detach()
    off = (mask * fft2c(images[name]) - measured).norm() / measured.norm()
    print(f"{name}: last loss {loss:.2f}; in the measured columns, {off:.1e} of their norm is off")
images["alone, then layer"] = consistent(images["U-Net alone"], measured, mask)
show({f"{n}: error {(x - truth).norm() / truth.norm():.3f}": x.abs() for n, x in images.items()}, 0, 5, width=2.2)

# %% [markdown]
# Con la capa, las columnas medidas son exactas salvo redondeo. Puesta detrás de la red entrenada sola ayuda poco; casi
# toda la ganancia viene de entrenar *a través* de ella: el gradiente solo pide entonces lo que falta. En la forma larga
# ambas se acercan (errores de 0.25 y 0.21, y 0.23 con la capa puesta detrás). Un corte no dice más; cuán segura es la
# diferencia lo dice `mrirecon compare` con muchas cabezas.
