"""A KVM host of our own to rehearse on, and to break: a virtual machine with nested virtualisation.

It boots with KVM where this machine has it, else with QEMU's emulation of AMD's SVM, which is slow
and not wrong. It is reached over SSH on loopback, and has no other network.
"""
