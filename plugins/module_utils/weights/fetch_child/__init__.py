"""Brings a model's files from a hub or a web folder: a program of its own, run by a Python that has the hub's library.

`weights.fetching` packs it into a zip application, so its modules import the standard library and each other alone. One
order comes as JSON on stdin:

    {"kind": "huggingface" | "modelscope" | "http", "mode": "resolve" | "facts" | "fetch", "repository", "revision",
     "url", "folder", "allow": [names] | null, "commit": the state wanted, or "", "libraries": [folders]}

Lines of JSON go to stdout: about once a second {"progress": {"bytes", "total", "files", "of"}}, at the end
{"result": {"commit", "files": [{"path", "size", "sha256"}]}} or {"error": {"problem", "fix"}}. Credentials come from
the environment alone: HF_TOKEN, MODELSCOPE_API_TOKEN, DEPLOYER_HTTP_AUTHORIZATION.

The `commit` of what has none, ModelScope's listings and web folders, is a digest of the list of files. Of a web folder
without sha256 sums, that counts the ETag, or the time of change, of each file.
"""
