"""What a run was asked for, and the folder that it leaves. Loads no torch."""
