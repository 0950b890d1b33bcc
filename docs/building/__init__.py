"""What the build of the site adds to the pages: pages of parts, links that leave."""
