"""Folders and archives whose members are mutated; a folder is carried in the bytes of a .tar, to be one file."""
import gzip
import hashlib
import io
import json
import shutil
import tarfile
import zipfile

from .json_values import changed_json

RESULTS = "results.json"  # of coding.compress: it has the digests of the files beside it
MAKERS = {"tar": (lambda file: tarfile.open(fileobj=file, mode="w"), lambda content: content),
          "tar.gz": (lambda file: tarfile.open(fileobj=file, mode="w"), lambda content: gzip.compress(content, 1)),
          "zip": (lambda file: zipfile.ZipFile(file, "w"), lambda content: content)}


def kind_of_archive(content):
    """"tar", "tar.gz", "zip", or None for other files."""
    if content[:2] == b"\x1f\x8b":
        return "tar.gz"
    return "zip" if content[:2] == b"PK" else "tar" if content[257:262] == b"ustar" else None


def members_of(content):
    """{name: bytes} of an archive."""
    if kind_of_archive(content) == "zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


def archive_of(members, kind):
    """The bytes of an archive of [(name, bytes)]; names may come twice."""
    file = io.BytesIO()
    make, finish = MAKERS[kind]
    with make(file) as archive:
        for name, content in members:
            if kind == "zip":
                archive.writestr(name, content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return finish(file.getvalue())


def folder_of(folder, kind="tar"):
    """The bytes of an archive of all files in a folder."""
    return archive_of([(path.name, path.read_bytes()) for path in sorted(folder.iterdir())], kind)


def laid_out(content, folder):
    """A folder anew, with the members of an archive."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, member in members_of(content).items():
        (folder / name).write_bytes(member)
    return folder


def changed_members(content, chance, change):
    """An archive with the bytes of one member, or what members there are, changed; ``change(bytes)``."""
    members, kind = members_of(content), kind_of_archive(content)
    name = chance.choice(sorted(members))
    before = dict(members)
    if chance.random() < 0.9:
        members[name] = change(members[name])
        if RESULTS in members and name != RESULTS:
            members[RESULTS] = _with_digest(members[RESULTS], before[name], members[name])
        return archive_of(members.items(), kind)
    operation, other = chance.randrange(4), chance.choice(sorted(members))
    if operation == 0:
        del members[name]
    elif operation == 1:
        members[name] = members[other]
    elif operation == 2:
        members[chance.choice(("x", "x-symbol.json", "net-0001.params", "symbol.json", "params"))] = members.pop(name)
    else:
        strange = chance.choice((name, f"../{name}", f"/{name}", "a/b/c", "a" * 300, "\\x", "\n"))
        return archive_of([*members.items(), (strange if kind != "tar" else name, members[other])], kind)
    return archive_of(members.items(), kind)


def _with_digest(results, before, after):
    """The results of a compression, which know a file by its digest, with that of another one."""
    old, new = (hashlib.sha256(content).hexdigest() for content in (before, after))
    return results.replace(old.encode(), new.encode())


def changed_json_text(content, chance):
    """The text of JSON with one place in it changed."""
    return json.dumps(changed_json(json.loads(content), chance))
