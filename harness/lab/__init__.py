"""Real guests to try it on, made from Debian packages and thrown away afterwards.

``up`` builds what is missing, starts a libvirtd if none answers, makes a network and boots guests
on it; ``down`` removes every trace. No other guest is ever touched.
"""
