import base64
import io
import struct
import zlib

import av
import numpy as np
import pytest
import torch
from PIL import Image
from PIL import features as pillow_features
from video_files import encode

from llava_st_hf.processing.image_loading_llava_st import (
    describe_source,
    flatten_images,
    flatten_videos,
    get_source_path,
    guess_media_type,
    is_url,
    load_images,
    open_image,
    probe_image,
    refuse_picture,
    refuse_url,
)
from llava_st_hf.processing.media_llava_st import MediaError, OversizedMediaError
from llava_st_hf.processing.video_decoding_llava_st import read_video
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = GREY.astype(np.uint16) * 257  # the same picture with 16 bits


def write(image, file_format, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def portable_grey_map(values) -> bytes:
    """Bytes of a format that Pillow opens in mode I."""
    return b"P5 16 16 65535\n" + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(write(Image.fromarray(WIDE), "png"), id="png"),
        pytest.param(write(Image.fromarray(WIDE), "tiff"), id="tiff"),
        pytest.param(write(Image.frombytes("I;16B", (16, 16), WIDE.astype(">u2").tobytes()), "tiff"), id="big endian"),
        pytest.param(portable_grey_map(WIDE), id="mode I"),
        pytest.param(Image.fromarray(WIDE.astype(np.int32)), id="picture of mode I"),
        pytest.param(Image.fromarray(GREY.astype(np.int32)), id="8 bits in mode I"),
        pytest.param(Image.fromarray(GREY), id="8 bits"),
    ],
)
def test_sixteen_bits_are_scaled(source):
    picture = open_image(source)
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), np.stack([GREY] * 3, axis=-1))


def test_frames_of_sixteen_bits_are_scaled():
    (frames,), _ = LlavaSTVideoProcessor().decode_videos([Image.fromarray(WIDE)] * 2, do_resize=False, num_frames=2)
    np.testing.assert_array_equal(frames[0, 0].numpy(), GREY)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(GREY.astype(np.float32)), "holds floats (mode F)"),
        (Image.fromarray(WIDE.astype(np.int32) * 9), "whole numbers from 0 to 589815 (mode I)"),
        (Image.fromarray(WIDE.astype(np.int32) - 1), "whole numbers from -1 to"),
        (3, "an image is a int"),
    ],
)
def test_pictures_whose_white_is_unknown(picture, words):
    with pytest.raises(MediaError) as error:
        open_image(picture)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 4, 3), 0.5, np.float32), "is float32: give uint8 from 0 to 255, say (image * 255).round()"),
        (np.full((4, 4, 3), np.nan), "is float64: give uint8"),
        (torch.rand(3, 4, 4), "is float32: give uint8"),
        (WIDE, "is uint16: give uint8 from 0 to 255, say (image / 257).round()"),
        (np.zeros((4, 4, 3), np.int64), "is int64: give uint8 from 0 to 255, say image.astype('uint8')"),
        (np.zeros((4, 4), bool), "is bool: give uint8 from 0 to 255, say image.astype('uint8') * 255"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
    ],
)
def test_arrays_are_bytes(array, words):
    with pytest.raises(MediaError) as error:
        load_images([array])
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_transparent_shows_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    palette = Image.new("P", (4, 4))
    palette.putpalette([9, 8, 7] + [0] * 765)
    assert open_image(write(clear, "png")).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(clear.convert("LA")).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(write(palette, "png", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 51))
    assert open_image(half).getpixel((0, 0)) == (204, 204, 204)
    assert open_image(write(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tiff")).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("channels", ["last", "first"])
def test_arrays_with_alpha_are_on_the_same_background_as_files(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    expected = np.asarray(open_image(write(Image.fromarray(pixels), "png")))
    array = pixels if channels == "last" else pixels.transpose(2, 0, 1)
    for form in (array, torch.from_numpy(array.copy())):
        (image,), (info,) = load_images([form])
        np.testing.assert_array_equal(image, expected)
        assert (info.width, info.height) == (8, 6)


def make_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream"])
def test_a_data_uri_is_the_file_in_it(kind, clip):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image, video = (
        make_uri(kind, write(picture, "png")),
        make_uri(kind.replace("image/png", "video/mp4"), clip.read_bytes()),
    )
    np.testing.assert_array_equal(np.asarray(open_image(image)), np.asarray(picture))
    assert read_video(video).frame_seconds == read_video(clip).frame_seconds
    assert (guess_media_type(image), guess_media_type(video)) == ("image", "video")
    with pytest.raises(MediaError, match="the data: URI: this is an image: give it as image="):
        read_video(image)


@pytest.mark.parametrize("read", [open_image, read_video])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("data:text/html;base64,aaaa", "the data: URI is of the kind 'text/html': give data:image/... or data:video"),
        ("data:,hello", "the data: URI is of the kind 'text'"),
        ("data:application/octet-stream;base64,a!", "no valid base64"),
        ("data:application/octet-stream,abcd", "no valid base64 (it does not say so)"),
        ("data:" + "a" * 10_000_000, "the data: URI is of the kind 'aaa"),
    ],
    ids=range(5),
)
def test_a_data_uri_of_another_kind_is_refused_by_its_name(read, source, words):
    with pytest.raises(MediaError) as error:
        read(source)
    assert words in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "ending",
    ["mp4", "mov", "mkv", "webm", "avi", "ts", "flv", "mpg", "ogv", "asf", "3gp", "ivf", "h264", "mxf", "m2v"],
)
def test_a_video_is_refused_as_one_where_an_image_is_asked_for(tmp_path, ending):
    codecs = {**dict.fromkeys(("webm", "ivf", "ogv"), "libvpx"), "mpg": "mpeg2video", "m2v": "mpeg2video"}
    path = encode(tmp_path / f"a.{ending}", codec=codecs.get(ending, "libx264"), params="", num_frames=3)
    for source in (str(path), path, path.read_bytes()):
        with pytest.raises(MediaError, match="is a video: give it as video="):
            open_image(source)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x1cftypheic" + bytes(300))
    with pytest.raises(MediaError, match="cannot be read as an image"):
        open_image(tmp_path / "a.jpg")


def test_an_animated_avif_is_a_clip_and_a_still_one_is_none(tmp_path):
    if not pillow_features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    frames = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(6)]
    path, still = tmp_path / "a.avif", tmp_path / "b.avif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(still)
    for source in (path, path.read_bytes(), make_uri("image/avif", path.read_bytes())):
        with pytest.raises(MediaError, match="is an animated AVIF: give it as video="):
            open_image(source)
        assert guess_media_type(source) == "video"
    assert len(read_video(path).frames) == 6
    with pytest.raises(MediaError, match="cannot be read as an image"):
        open_image(still)
    for refuse in (read_video, refuse_picture):
        with pytest.raises(MediaError, match="this is an image: give it as image="):
            refuse(still)


def test_a_video_in_a_data_uri_is_no_image(clip):
    with pytest.raises(MediaError, match="the data: URI is a video: give it as video="):
        open_image(make_uri("video/mp4", clip.read_bytes()))


def test_a_file_address_is_read_in_the_folders_that_are_named(clip, tmp_path):
    inside, outside = tmp_path / "in side", tmp_path / "other"
    for folder in (inside, outside):
        folder.mkdir()
        Image.new("RGB", (8, 6)).save(folder / "a.png")
        (folder / "a.mp4").write_bytes(clip.read_bytes())
    (inside / "link.png").symlink_to(outside / "a.png")
    for flatten, name in ((flatten_images, "a.png"), (flatten_videos, "a.mp4")):
        uri = (inside / name).as_uri()
        assert flatten([uri], str(inside)) == flatten({"path": uri}, [outside, inside]) == [str(inside / name)]
        assert flatten([uri]) == [uri]  # and then it is refused, as any address
        for address in (
            (outside / name).as_uri(),
            f"{inside.as_uri()}/../other/{name}",
            f"file://host{inside}/{name}",
        ):
            with pytest.raises(
                MediaError, match=r"lies outside of file_roots .*: give a file in one of these folders"
            ):
                flatten([address], [inside])
    with pytest.raises(MediaError, match="lies outside of file_roots"):
        flatten_images([f"{inside.as_uri()}/link.png"], [inside])
    for read in (open_image, read_video):
        with pytest.raises(MediaError, match=r"is not opened: give the path of a file, or its folder as file_roots"):
            read((inside / "a.mp4").as_uri())


def test_a_list_of_pictures_in_files_is_one_clip(tmp_path, clip):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    pictures = [str(tmp_path / "a.png")] * 2
    content = (tmp_path / "a.png").read_bytes()
    assert flatten_videos(pictures) == flatten_videos([pictures]) == [pictures]
    assert flatten_videos([pictures, pictures]) == [pictures] * 2
    assert flatten_videos([content, {"bytes": content}]) == [[content] * 2]
    assert flatten_videos(["https://a/1.jpg", "https://a/2.jpg"]) == [["https://a/1.jpg", "https://a/2.jpg"]]
    assert flatten_videos([str(clip), str(clip)]) == [str(clip)] * 2
    save_animation(tmp_path / "a.webp", "WEBP")
    assert flatten_videos([tmp_path / "a.webp"] * 2) == [tmp_path / "a.webp"] * 2  # two clips


def test_opens_the_pixels_that_the_model_sees(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise for display
    path = tmp_path / "turned.png"
    Image.fromarray(WIDE[:8]).save(path, exif=exif)
    (loaded,), (info,) = load_images([path])
    picture = open_image(path)
    assert picture.size == (info.width, info.height) == (8, 16) and info.source == str(path)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(loaded))
    with pytest.raises(MediaError, match=r"nowhere\.png does not exist"):
        open_image("nowhere.png")


@pytest.mark.parametrize("source", ["http://a/b", "HTTPS://a/b", "rtmp://a/b", "file:///a", "s3://a/b.jpg"])
def test_addresses(source):
    assert is_url(source)
    with pytest.raises(MediaError, match="allow_url=True" if source[0] in "hH" else "is not opened: give the path"):
        refuse_url(source, allow_url=False)
    if source[0] in "hH":
        refuse_url(source, allow_url=True)


@pytest.mark.parametrize(
    "source", ["a/b.jpg", "C://a.jpg", "concat:a://b", "data:image/png;base64,aa//", b"http://a", 3]
)
def test_paths_are_no_addresses(source):
    assert not is_url(source)
    refuse_url(source, allow_url=False)


@pytest.mark.parametrize(
    ("source", "name", "path"),
    [
        ("a\nb.jpg", "a b.jpg", "a\nb.jpg"),
        (b"123", "the file of 3 bytes", None),
        ("data:image/png;base64,aa", "the data: URI", None),
        (np.zeros(3), "the ndarray", None),
    ],
)
def test_names_of_media(source, name, path):
    assert describe_source(source) == name and get_source_path(source) == path


def test_a_picture_that_is_larger_than_pillow_opens_is_named_so():
    header = b"P6 100000 100000 255\n"  # 10 billion pixels in 21 bytes
    with pytest.raises(OversizedMediaError, match="scale it down first"):
        open_image(header)


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ("a.mp4", "video"),
        ("a.webm", "video"),
        ("noending", "video"),
        ("a.JPG", "image"),
        ("a.mpg", "video"),
        ("a.gif", "video"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        ({"bytes": b"\xff\xd8\xff\xe0", "path": None}, "image"),
        ({"bytes": None, "path": "a.mp4"}, "video"),
        (Image.new("RGB", (1, 1)), "image"),
        (np.zeros((4, 4, 3)), "image"),
        (np.zeros((2, 4, 4, 3)), "video"),
        ([Image.new("RGB", (1, 1))], "video"),
    ],
)
def test_media_type_is_guessed(media, expected):
    assert guess_media_type(media) == expected


def test_first_bytes_count_more_than_the_ending(tmp_path, clip):
    (tmp_path / "picture.mp4").write_bytes(write(Image.new("RGB", (1, 1)), "jpeg"))
    (tmp_path / "film.png").write_bytes(clip.read_bytes())
    assert guess_media_type(tmp_path / "picture.mp4") == "image"
    assert guess_media_type(str(tmp_path / "film.png")) == "video"


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_the_size_of_a_picture_is_that_of_the_opened_one(orientation, image_format):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    content = write(Image.new("RGB", (30, 20)), image_format, exif=exif)
    assert probe_image(content) == open_image(content).size == ((20, 30) if (orientation or 1) > 4 else (30, 20))


def save_animation(path, image_format, num_frames=6):
    """Save frames that get lighter, at 0.0, 0.1, 0.2, 0.3, 0.6 and 0.9 s."""
    frames = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(num_frames)]
    if image_format == "MJPEG":
        files = []
        for frame in frames:
            frame.save(file := io.BytesIO(), "JPEG")
            files.append(file.getvalue())
        path.write_bytes(b"".join(files))
        return path
    options = {"lossless": True} if image_format == "WEBP" else {}
    durations = [100, 100, 100, 300, 300, 300]
    frames[0].save(path, image_format, save_all=True, append_images=frames[1:], duration=durations, **options)
    return path


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "MJPEG"])
def test_an_animation_is_a_clip_and_no_image(tmp_path, image_format):
    path = save_animation(tmp_path / "animation", image_format)
    for source in (path, path.read_bytes()):
        assert guess_media_type(source) == "video"
        with pytest.raises(MediaError, match=r"is an animation of 6 frames: give it as video="):
            open_image(source)
        video = read_video(source)
        assert video.frames[:, 0].float().mean((1, 2)).tolist() == pytest.approx([0, 40, 80, 120, 160, 200], abs=3)
        if image_format != "MJPEG":
            assert video.frame_seconds == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.6, 0.9])
            assert video.stated_end_seconds == pytest.approx(1.2, abs=0.2)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "JPEG"])
def test_a_picture_that_does_not_move_is_an_image(tmp_path, image_format):
    Image.new("RGB", (64, 48), (40, 0, 0)).save(tmp_path / "still", image_format)
    assert open_image(tmp_path / "still").size == (64, 48)


def test_the_animated_file_is_a_clip(hard_media_dir):
    path = hard_media_dir / "anim.webp"
    assert guess_media_type(path) == "video"
    video, picture = read_video(path), Image.open(path)
    assert video.total_num_frames == picture.n_frames
    for index in range(picture.n_frames):
        picture.seek(index)
        assert (video.frames[index].permute(1, 2, 0).numpy() == np.asarray(picture.convert("RGB"))).all()


def test_pictures_of_an_animation_without_times_are_shown_as_browsers_do(tmp_path):
    frames = [Image.new("RGB", (64, 48), (40 * index, 0, 0)) for index in range(6)]
    for name, options in (("clip.webp", {"lossless": True}), ("clip.gif", {})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=0, **options)
        video = read_video(tmp_path / name)
        assert video.frame_seconds == pytest.approx([index / 10 for index in range(6)])
        assert video.stated_end_seconds == pytest.approx(0.6)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_a_webm_that_is_transparent_shows_white(tmp_path, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    with av.open(str(tmp_path / "clip.webm"), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0", "g": "8", "b:v": "500k"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        for index in range(40):
            pixels = np.zeros((48, 64, 4), np.uint8)
            pixels[:, 32:] = (5 * index, 0, 0, 255)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
        container.mux(stream.encode(None))
    video = read_video(tmp_path / "clip.webm")
    assert video.frames[:, :, 24, 8].float().mean() > 250
    assert video.frames[:, 0, 24, 56].tolist() == pytest.approx([5 * index for index in range(40)], abs=12)
    part = read_video(tmp_path / "clip.webm", frame_indices=[3, 20, 38])
    assert (part.frames == video.frames[[3, 20, 38]]).all()


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP"])
def test_what_is_transparent_in_a_clip_shows_white(tmp_path, image_format):
    frames = [Image.new("RGBA", (32, 24), (200, 0, 0, 255)), Image.new("RGBA", (32, 24), (0, 0, 200, 255))]
    for frame in frames:
        frame.paste((0, 90, 0, 0), (0, 0, 16, 24))
    options = {"lossless": True} if image_format == "WEBP" else {"disposal": 1}
    path = tmp_path / "clip"
    frames[0].save(path, image_format, save_all=True, append_images=frames[1:], duration=100, **options)
    video = read_video(path)
    assert video.frames[:, :, 12, 4].tolist() == [[255, 255, 255]] * 2
    assert video.frames[:, :, 12, 24].tolist() == [[200, 0, 0], [0, 0, 200]]


@pytest.mark.parametrize("image_format", ["EPS", "PDF", "ICO", "PCX", "TGA", "JPEG2000"])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_other_decoders_of_pillow_are_not_started(tmp_path, image_format, ending, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **options: pytest.fail("started"))
    path = tmp_path / f"a{ending}"
    Image.new("RGB", (16, 16), "red").save(path, image_format)
    for source in (path, path.read_bytes()):
        with pytest.raises(MediaError, match=r"cannot be read as an image.*give a file of PNG, JPEG, WEBP, GIF"):
            open_image(source)


def test_a_picture_that_claims_more_pixels_than_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("llava_st_hf.processing.image_loading_llava_st.MAX_PICTURE_PIXELS", 16 * 16 - 1)
    Image.new("RGB", (16, 16)).save(file := io.BytesIO(), "PNG")
    with pytest.raises(
        OversizedMediaError, match=r"is 16 x 16 pixels, more than the limit of 255.*open it with Pillow"
    ):
        open_image(file.getvalue())
    assert open_image(Image.open(file)).size == (16, 16)


@pytest.mark.parametrize("error", [EOFError, KeyError, IndexError, struct.error, zlib.error, OverflowError, TypeError])
def test_whatever_a_decoder_raises_is_a_media_error(monkeypatch, error):
    Image.new("RGB", (16, 16)).save(file := io.BytesIO(), "PNG")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: (_ for _ in ()).throw(error("broken")))
    with pytest.raises(MediaError, match="cannot be read as an image"):
        open_image(file.getvalue())
