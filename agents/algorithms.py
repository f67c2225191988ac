"""Presets that train a language model: functions that return a frozen `ReReConfig`."""
