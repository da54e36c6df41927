"""Make the pictures of the README and of docs/results.md from a gateway that runs: `make pictures`.

Shown are pictures that may be passed on: drawn ones, and scikit-image's photograph "Chelsea" (CC0).
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
import skimage.data
import typer
from PIL import Image, ImageDraw, ImageFont

HEIGHT = 200
GAP = 8
CAPTION = 22
DRAWN = ("cat/cat.0001.jpg", "dog/dog.0002.jpg")


def main(
    files: Annotated[list[Path] | None, typer.Argument(help="Pictures; by default Chelsea and two drawn ones.")] = None,
    address: Annotated[str, typer.Option(help="The gateway.")] = "http://127.0.0.1:8080",
    pictures: Annotated[Path, typer.Option(help="A drawn picture set.")] = Path("demo/drawn/pictures"),
    output: Annotated[Path, typer.Option(help="The picture file to write.")] = Path("docs/images/overlays.jpg"),
) -> None:
    """Show each picture beside the heat maps of all models."""
    with httpx.Client(base_url=address, timeout=60) as http:
        models = [model["name"] for model in http.get("/v1/models").raise_for_status().json()["models"]]
        drawn = [pictures / "test" / name for name in DRAWN]
        shown = [path.read_bytes() for path in files or drawn]
        rows = [_row(http, models, data) for data in ([] if files else [_chelsea()]) + shown]
    output.parent.mkdir(parents=True, exist_ok=True)
    _sheet(rows).save(output, quality=88)
    typer.echo(f"wrote {output}")


def _chelsea() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(skimage.data.chelsea()).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def _row(http: httpx.Client, models: Sequence[str], data: bytes) -> list[Image.Image]:
    row = [_captioned(Image.open(io.BytesIO(data)), "picture")]
    for model in models:
        answer = http.post(f"/v1/models/{model}:classify", files={"file": data}).raise_for_status().json()
        (best,) = answer["classifications"]
        overlay = http.post(
            f"/v1/models/{model}/explain/grad-cam", files={"file": data}, headers={"Accept": "image/png"}
        ).raise_for_status()
        caption = f"{model}: {best['label']} {best['score']:.2f}"
        row.append(_captioned(Image.open(io.BytesIO(overlay.content)), caption))
    return row


def _captioned(image: Image.Image, caption: str) -> Image.Image:
    image = image.convert("RGB").resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
    font = ImageFont.load_default(14)
    tile = Image.new("RGB", (max(image.width, round(font.getlength(caption)) + 2), HEIGHT + CAPTION), "white")
    tile.paste(image, (0, CAPTION))
    ImageDraw.Draw(tile).text((1, 3), caption, "black", font)
    return tile


def _sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    width = max(sum(tile.width + GAP for tile in row) for row in rows) - GAP
    sheet = Image.new("RGB", (width, len(rows) * (HEIGHT + CAPTION + GAP) - GAP), "white")
    for number, row in enumerate(rows):
        left = 0
        for tile in row:
            sheet.paste(tile, (left, number * (HEIGHT + CAPTION + GAP)))
            left += tile.width + GAP
    return sheet


if __name__ == "__main__":
    typer.run(main)
