"""The lookup service: what ``mmfeat serve`` runs. Read-only: nothing that it offers changes a store."""
