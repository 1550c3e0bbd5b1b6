"""The registry's pages in the console. They stand above the other folders of this layer, because a
page shows together what those keep apart: settings, credentials, checks, aliases."""
