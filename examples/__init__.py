"""What people who use Morpheus may begin with."""
