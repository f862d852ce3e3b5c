"""Does the reposition stay steady where plain epochs do not, as sampling weights grow old?"""
