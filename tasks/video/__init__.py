"""Video"""
