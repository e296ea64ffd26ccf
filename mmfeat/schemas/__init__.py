"""Words of the project as types: items, specs, feature sets, errors. Imports nothing heavy."""
