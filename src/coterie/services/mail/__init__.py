"""Mail: letters from an app to the same app on another computer, kept on disk until they are acknowledged or expire."""
