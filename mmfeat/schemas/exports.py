"""What of an export's folder others than its exporter read."""

# A Parquet file with the column item_id: the exported items, in their order.
ID_MAP = "id_map.parquet"
