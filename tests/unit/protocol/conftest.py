"""Fixtures: a mesh, another mesh that nobody trusts, and a valid manifest to break."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.mesh import Mesh, make_mesh


@pytest.fixture(scope="session")
def mesh() -> Mesh:
    return make_mesh()


@pytest.fixture(scope="session")
def other_mesh() -> Mesh:
    return make_mesh()


@pytest.fixture
def manifest_value() -> dict[str, Any]:
    """A valid manifest as a plain value, fresh for each test to break."""
    registers = (0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14)
    role = {"vtpm": [{"shape": "q35-2", "pcrs": {str(i): f"{i:064x}" for i in registers}}]}
    return {
        "format": "confide-manifest/3",
        "mode": "development",
        "platforms": {"vtpm": {"development_ca": "ab" * 32}},
        "roles": {"coordinator": role, "secret-service": role, "worker-cpu": role},
        "models": [
            {
                "name": "tiny",
                "root_hash": "cd" * 32,
                "hash_offset": 4096,
                "tasks": ["chat", "completion"],
                "roles": ["worker-cpu"],
                "engine": {},
            }
        ],
        "update_keys": [],
        "recovery_keys": [],
    }
