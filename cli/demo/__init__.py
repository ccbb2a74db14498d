"""`chartchain demo`: the main job of the house, end to end, on a throw-away network of four real daemons.

`play` runs the steps one after another; each step is a coroutine that takes the `Stage`, does its part and
returns what it proved, in sentences. A step that does not see what it must see raises `StepFailed`.
"""
