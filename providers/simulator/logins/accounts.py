"""The people who can sign in at the simulated vendors. Their plan decides what they meet."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Final, Literal

Plan = Literal["pro", "free", "business", "none", "exhausted", "suspended"]


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    full_name: str
    plan: Plan
    # What the account chooser says about it.
    summary: str

    @property
    def email(self) -> str:
        return f"{self.name}@example.test"

    @property
    def number(self) -> int:
        """The stable id that vendors give beside the name."""
        return 1000 + int(hashlib.sha256(self.name.encode()).hexdigest()[:6], 16)

    def uuid(self, kind: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}.{self.name}.example.test"))


ACCOUNTS: Final[dict[str, Account]] = {
    account.name: account
    for account in (
        Account("ada", "Ada Example", "pro", "pays for herself, everything works"),
        Account("ben", "Ben Example", "free", "free plan, must be set up where there is a set-up"),
        Account("cleo", "Cleo Example", "business", "seat of a company, which decides for her"),
        Account("dan", "Dan Example", "none", "signs in, but has no plan"),
        Account("eve", "Eve Example", "exhausted", "pays, but this month is used up"),
        Account("finn", "Finn Example", "suspended", "locked out by the vendor"),
    )
}
DEFAULT_ACCOUNT: Final = "ada"


def account_of(name: str) -> Account:
    """Raises ValueError with the names there are."""
    account = ACCOUNTS.get(name or DEFAULT_ACCOUNT)
    if account is None:
        raise ValueError(f"there is no account {name!r}; take one of {', '.join(ACCOUNTS)}")
    return account
