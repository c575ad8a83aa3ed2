"""The ledger that is the contract, executable: a list of events from which every answer is worked out again."""

from tallystick.ledger.memory.ledger import MemoryLedger as MemoryLedger
