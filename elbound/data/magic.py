"""What a file is by its first bytes, in words for people: for errors about files of a wrong kind."""

AS_PNG = "convert it to PNG or JPEG"
BINARY = {
    b"GIF8": f"a GIF; {AS_PNG}",
    b"%PDF": "a PDF; export its pictures as PNG",
    b"8BPS": "a Photoshop file; export it as PNG",
    b"\x00\x00\x00\x0cjP  ": f"JPEG 2000; {AS_PNG}",
    b"\xff\x4f\xff\x51": f"JPEG 2000; {AS_PNG}",
    b"\x00\x00\x00\x0cJXL ": f"JPEG XL; {AS_PNG}",
    b"\x00\x00\x01\x00": f"an icon; {AS_PNG}",
    b"v/1\x01": "OpenEXR; convert it to 16-bit PNG",
    b"SIMPLE  =": "FITS; convert it to 16-bit PNG",
    b"\x89HDF": "HDF5; write its pictures as PNG",
    b"\x93NUMPY": "a NumPy array; write its pictures as PNG",
    b"PK\x03\x04": "a zip; unpack it first",
    b"\x1f\x8b\x08": "packed by gzip; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it first",
    b"Rar!\x1a\x07": "a RAR archive; unpack it first",
}
TEXT = {
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file with: git lfs pull",
    b"<svg": "SVG; draw it as PNG",
    b"<!doctype html": "a page of HTML, as a failed download leaves it",
    b"<html": "a page of HTML, as a failed download leaves it",
    b"<?xml": "XML",
}
"""In lower case; white space may stand before it."""
BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"mif1": "HEIF",
    b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
"""Of the ISO base media files, the pictures; the others are films."""


def kind_of(data: bytes) -> str | None:
    """What the bytes are and what to do about it, as in "a zip; unpack it first"; None where nothing is known."""
    if data[4:8] == b"ftyp":
        brand = BRANDS.get(data[8:12])
        return f"{brand}; {AS_PNG}" if brand else "a video; export its frames as PNG"
    if data[128:132] == b"DICM":
        return "DICOM; convert it to 16-bit PNG"
    text = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    found = [words for start, words in BINARY.items() if data.startswith(start)]
    found += [words for start, words in TEXT.items() if text.startswith(start)]
    return found[0] if found else None
