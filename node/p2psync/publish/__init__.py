"""Publishing: scan -> chunk and hash -> directory objects -> signed head. Announcing the head is the node's
business.

`publish` is the way in. The state directory keeps what is needed to serve the tree and to publish it again
quickly.
"""

from p2psync.publish.publisher import FRESHNESS, Published, publish

__all__ = ["FRESHNESS", "Published", "publish"]
